"""The public functions embed.text and embed.image."""
