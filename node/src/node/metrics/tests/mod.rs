//! What whoever watches a node relies on: a page that parses, numbers that follow what happens, and dashboards that speak
//! of nothing else.

mod bed;
mod deployed;
mod page;
mod watching;
