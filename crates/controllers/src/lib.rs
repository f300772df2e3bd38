//! One folder a controller; the CONTROLLERS table.
