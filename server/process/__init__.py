"""The processes of a server: the supervisor, its workers, the signer, the archiver."""
