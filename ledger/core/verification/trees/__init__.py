"""The signed logs: trees over leaves and tiles, their heads, anchors and what others attested."""
