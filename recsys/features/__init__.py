"""Item vectors: text, behaviour and given vectors, and the categories read off them."""
