"""Object detectors: from images on a canvas to outputs that know their losses and their boxes, image by image."""
