//! Archives there and back, damaged archives, and archives of other tools.

#[cfg(test)]
mod damage;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod whole;
