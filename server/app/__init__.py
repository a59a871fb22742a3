"""The composition root: the features of the server, and the application made of them."""
