"""HTTP/1.x below the application: sockets, connections, well-formed requests."""
