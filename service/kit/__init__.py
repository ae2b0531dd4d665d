"""What every domain uses: errors, problems, pages of rows, parameters of requests, CSV."""
