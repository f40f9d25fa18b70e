//! `trunkline demo` (being built)
pub mod accounts;
pub mod broker;
pub mod cast;
pub mod publisher;
pub mod story;
