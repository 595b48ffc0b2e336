"""The server's half of maps: datasets, jobs that build, the official client's wire protocol and our own API."""
