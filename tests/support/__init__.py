"""What tests share: tiny models and texts, stub servers, planted truths, processes to kill."""
