"""Two small real services, the shop's catalog and its cart, and the demo that runs a mesh of them."""
