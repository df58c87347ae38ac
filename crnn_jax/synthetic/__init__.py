"""Rendered words: fonts, texts, layout and drawing as a source of samples; and augmentation."""
