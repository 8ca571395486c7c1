//! Bulkhead core.
#![no_std]
