//! Panics in the middle of work, for the tests that run on this thread only: tests run side by side.

use std::cell::RefCell;
use std::collections::HashMap;

thread_local! {
    static ARMED: RefCell<HashMap<&'static str, u32>> = RefCell::default();
}

/// Has what this thread runs panic at a failpoint, the next so many times.
pub fn panic_at(name: &'static str, times: u32) {
    ARMED.with_borrow_mut(|armed| armed.insert(name, times));
    fail::cfg_callback(name, move || {
        let hit = ARMED.with_borrow_mut(|armed| match armed.get_mut(name) {
            Some(left @ 1..) => {
                *left -= 1;
                true
            }
            _ => false,
        });
        assert!(!hit, "the failpoint {name}");
    })
    .unwrap();
}

/// How many of these panics have not come yet.
pub fn left(name: &'static str) -> u32 {
    ARMED.with_borrow(|armed| armed.get(name).copied().unwrap_or_default())
}
