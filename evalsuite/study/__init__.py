"""Human rating studies: draw a blinded sample, show it in one offline page, score the votes."""
