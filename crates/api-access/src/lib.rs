//! Who is calling, may they, what is filled in or refused.
