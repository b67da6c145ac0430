//! The judge, judged: on histories made by hand, and at a real broker.

mod broker;
mod hand_made;
mod later;
mod series;
mod tagged;
mod violations;
