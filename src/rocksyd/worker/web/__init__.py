"""What a web worker is made of. It is loaded only by an application that serves requests, and imports what that has: uvicorn."""
