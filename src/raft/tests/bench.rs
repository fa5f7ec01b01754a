//! One node, fed by hand.
