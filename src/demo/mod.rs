//! `trunkline demo` (being built)
pub mod broker;
