"""What a service worker is made of: connections of an application's own protocol, served by a class of its own."""
