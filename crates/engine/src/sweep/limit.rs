//! How much may go.
//!
//! Comes in: a number of entries, or a part of those that are there; goes out: whether that many are too many.

use crate::error::Refusal;

/// How much may be deleted; beyond it nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxDelete {
    /// This many entries.
    Entries(u64),
    /// This many of a hundred that are there.
    Percent(u32),
}

impl MaxDelete {
    /// Refuses more than all.
    pub fn check(self) -> Result<(), Refusal> {
        match self {
            Self::Percent(percent) if percent > 100 => {
                Err(Refusal::Usage(format!("max-delete: {percent}% is more than all")))
            }
            Self::Entries(_) | Self::Percent(_) => Ok(()),
        }
    }

    /// How many of `all` entries may be deleted.
    pub fn of(self, all: u64) -> u64 {
        match self {
            Self::Entries(most) => most,
            Self::Percent(most) => u64::try_from(u128::from(most) * u128::from(all) / 100).unwrap_or(u64::MAX),
        }
    }

    /// Whether deleting this many of `all` entries is too much.
    pub fn forbids(self, victims: u64, all: u64) -> bool {
        victims > self.of(all)
    }
}

impl std::fmt::Display for MaxDelete {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Entries(most) => write!(formatter, "{most}"),
            Self::Percent(most) => write!(formatter, "{most}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_forbids_what_is_above_it() {
        let cases = [
            (MaxDelete::Entries(0), 0, 9, false),
            (MaxDelete::Entries(0), 1, 9, true),
            (MaxDelete::Entries(3), 3, 3, false),
            (MaxDelete::Percent(0), 0, 0, false),
            (MaxDelete::Percent(50), 5, 10, false),
            (MaxDelete::Percent(50), 6, 11, true),
            (MaxDelete::Percent(100), u64::MAX, u64::MAX, false),
        ];
        for (limit, victims, all, forbidden) in cases {
            assert_eq!(limit.forbids(victims, all), forbidden, "{limit} {victims} {all}");
        }
    }
}
