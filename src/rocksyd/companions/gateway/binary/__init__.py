"""The daemon's methods as Protocol Buffers: the messages, their values as JSON's, requests and replies, connections."""
