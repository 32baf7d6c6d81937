"""Side-by-side measurements of the gateway and of proxies that people use. Not part of the installed package."""
