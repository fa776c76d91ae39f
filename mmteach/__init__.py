"""mmteach: the helper package of a hands-on course on multimodal learning and image generation."""

__version__ = "0.1.0"
