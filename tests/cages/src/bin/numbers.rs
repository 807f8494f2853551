//! Makes calls of all numbers that only grates could serve, and tries to come by such numbers.

use cage_libc::sys::{self, Arg, Errno, UNUSED};

const ENOSYS: Errno = Errno(38);

fn main() {
    let own = sys::own_id();
    for number in (512..1000).chain(1004..1100).chain(1113..10_000) {
        // SAFETY: nobody takes an address.
        let answer = unsafe { sys::syscall(number, &[0; 6]) };
        if answer != Err(ENOSYS) {
            println!("{number}: {answer:?}");
            sys::exit(1);
        }
    }
    let arg = |value, cage| Arg { value, cage };
    let none = arg(UNUSED, UNUSED);
    for cage in (1..12).filter(|&cage| cage != own) {
        let attempts = [
            // The table of a grate; a handler of a grate; a handler on a grate.
            (1003, [arg(cage, own), none, none]),
            (1001, [arg(own, 3000), arg(UNUSED, cage), arg(2, UNUSED)]),
            (1001, [arg(cage, 0), arg(UNUSED, own), arg(2, UNUSED)]),
            // What stands on this cage is not its own to take away.
            (1001, [arg(own, 1), arg(UNUSED, 500), arg(2, UNUSED)]),
        ];
        for (number, [first, second, third]) in attempts {
            let args = [first, second, third, none, none, none];
            // SAFETY: no address among the arguments.
            let answer = unsafe { sys::call_3i(number, own, own, &args) };
            if answer == 0 {
                println!("{number} for {cage}: {answer}");
                sys::exit(1);
            }
        }
        for number in [1, 3000, 3001, 2000] {
            let args = [arg(0, cage); 6];
            // SAFETY: nobody takes an address.
            let answers = unsafe {
                [
                    sys::call_3i(number, cage, own, &args),
                    sys::call_3i(number, own, cage, &args),
                ]
            };
            if answers.iter().any(|&answer| answer >= 0) {
                println!("{number} as {cage}: {answers:?}");
                sys::exit(1);
            }
        }
    }
    println!("no number is served");
}
