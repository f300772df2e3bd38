//! ResourceSpec and shapes as data, and all that follows from a shape.
