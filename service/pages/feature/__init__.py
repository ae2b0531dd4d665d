"""What is shown of a feature: on its page, in embeds, in files for export."""
