//! Times of entries, of which each place keeps as much as it can.
//!
//! Comes in: two times; goes out: whether they are one, or which is later.

use bulkhaul_sys::Time;

/// Nanoseconds of the times that places keep: whole seconds, thousandths, millionths, and those of Windows.
const STEPS: [u32; 4] = [1_000_000_000, 1_000_000, 1000, 100];

/// Whether two times are one: whoever keeps whole seconds, or thousandths, keeps no more of it.
pub fn is_same(a: Time, b: Time) -> bool {
    let keeps = |kept: u32, whole: u32| {
        STEPS
            .iter()
            .any(|step| kept.is_multiple_of(*step) && kept / step == whole / step)
    };
    a.sec == b.sec && (a.nsec == b.nsec || keeps(a.nsec, b.nsec) || keeps(b.nsec, a.nsec))
}

/// Whether the first is later than the second.
pub fn is_after(a: Time, b: Time) -> bool {
    (a.sec, a.nsec) > (b.sec, b.nsec) && !is_same(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_the_same_where_less_of_it_is_kept() {
        let at = |nsec| Time { sec: 5, nsec };
        for (kept, same) in [
            (123_456_789, true),
            (0, true),
            (123_000_000, true),
            (123_456_000, true),
            (123_456_700, true),
            (124_000_000, false),
            (123_456_788, false),
        ] {
            assert_eq!(is_same(at(123_456_789), at(kept)), same, "{kept}");
            assert_eq!(is_same(at(kept), at(123_456_789)), same, "{kept}");
        }
        assert!(!is_same(at(0), Time { sec: 6, nsec: 0 }));
    }
}
