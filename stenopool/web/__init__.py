"""The web page: server-rendered, with a little JavaScript of our own; nothing is loaded from elsewhere."""
