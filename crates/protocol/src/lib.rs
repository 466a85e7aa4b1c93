//! What a node and a gateway say to each other, as pure values.
