"""The embedding server: one service behind the wire formats of six others."""
