"""What every domain uses: problems, pages of rows, parameters of requests, CSV."""
