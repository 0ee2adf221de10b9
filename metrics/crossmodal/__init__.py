"""Ties between modalities: does the caption belong to the image, the transcript to the speech."""
