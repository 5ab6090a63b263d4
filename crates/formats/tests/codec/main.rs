//! Archives there and back, damaged archives, and archives of other tools.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod oracle;
#[cfg(test)]
#[path = "../oracle/mod.rs"]
mod programs;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod whole;
