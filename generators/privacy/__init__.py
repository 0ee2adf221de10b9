"""Personal data taken out before anything else sees it; what is left is never anonymous."""
