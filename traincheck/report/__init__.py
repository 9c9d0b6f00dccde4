"""How a verdict is told: as text, as a page, and as the documents that machines read."""
