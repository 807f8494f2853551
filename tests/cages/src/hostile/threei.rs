//! 3i's own calls, in every order and with every cage. Whatever they answer, the grates above
//! still see all calls in the end.

use super::gate::*;
use super::{Attempt, Dice, Stage};
use cage_libc::sys::{self, address};

pub const ATTEMPTS: &[Attempt] = &[
    ("taking back each of its grate's handlers", take_back),
    ("a handler of one's own on each number", own_handlers),
    ("handlers that are none", no_handlers),
    ("a table that has less", poorer_table),
    (
        "a table that has less, of a grate of one's own",
        poorer_table_of_a_grate,
    ),
    ("3i calls in every order", orders),
    ("3i calls of two cages at once", at_once),
    ("copies with wild lengths and kinds", copies),
    ("registering for a child that has exec'ed", after_exec),
];

fn register(cage: u64, number: u64, grate: u64, handler: u64) -> i32 {
    let args = [arg(cage, number), arg(UNUSED, grate), arg(handler, UNUSED)];
    raw(REGISTER, sys::own_id(), &args)
}

fn copy_table(from: u64, to: u64) -> i32 {
    raw(COPY_TABLE, sys::own_id(), &[arg(from, to)])
}

fn take_back(stage: &Stage) -> Outcome {
    let me = sys::own_id();
    for number in 0..1200 {
        // EINVAL: there is none.
        let got = register(me, number, DEREGISTER, UNUSED);
        expect(format!("number {number}"), got, &[EPERM, -22])?;
    }
    let child = forked(|| {
        let own = sys::own_id();
        let refused = (0..1200).all(|number| register(own, number, DEREGISTER, UNUSED) < 0);
        i32::from(!refused || stage.still_served().is_err())
    })?;
    for number in 0..1200 {
        register(child as u64, number, DEREGISTER, UNUSED);
    }
    wait_well(child)?;
    stage.still_served()
}

/// Whether it may, and then what its calls answer, is its own affair: it may serve itself badly,
/// and lose all of its calls by it. It does not get around its grate, and the run ends.
fn own_handlers(stage: &Stage) -> Outcome {
    for handler in [0, 2, 3, u64::from(u32::MAX), super::own::seven_index()] {
        let child = forked(|| {
            let own = sys::own_id();
            for number in (0..340).filter(|number| ![1, 2, 60, 231].contains(number)) {
                register(own, number, own, handler);
            }
            for _ in 0..100 {
                write(1, MARK);
                open(c"/open/own.log", O_CREAT | O_RDWR, 0o644);
                call(102, &[]);
            }
            for number in 0..340 {
                register(own, number, DEREGISTER, UNUSED);
            }
            write(1, MARK);
            0
        })?;
        wait(child)?;
    }
    stage.still_served()
}

fn no_handlers(stage: &Stage) -> Outcome {
    let child = forked(|| {
        pause(50);
        for number in [39, 102, 104, 107] {
            call(number, &[]);
        }
        0
    })?;
    let cage = child as u64;
    let me = sys::own_id();
    for number in [
        39,
        102,
        104,
        107,
        1 << 31,
        1 << 32,
        (1 << 32) + 39,
        u64::MAX,
    ] {
        for handler in [
            0,
            1,
            2,
            0xffff,
            u64::from(u32::MAX),
            1 << 32,
            1 << 63,
            u64::MAX,
        ] {
            let got = register(cage, number, me, handler);
            if got > 0 {
                return Err(format!("number {number}, handler {handler:#x}: {got}"));
            }
        }
    }
    // It traps in a call, or not.
    wait(child)?;
    stage.still_served()
}

fn poorer_table(stage: &Stage) -> Outcome {
    let me = sys::own_id();
    let (released, latch) = pipe()?;
    let child = forked(|| {
        close(latch);
        while sys::read(released, &mut [0; 1]) == Err(sys::Errno(4)) {}
        i32::from(stage.still_served().is_err())
    })? as u64;
    close(released);
    let cages = [
        me,
        child,
        stage.grate().unwrap_or(0),
        1,
        0,
        4_000_000,
        u64::MAX,
    ];
    for from in cages {
        for to in cages {
            let got = copy_table(from, to);
            expect(
                format!("{from} to {to}"),
                got,
                &[0, EPERM, ESRCH, ABORTED, GONE],
            )?;
        }
    }
    close(latch);
    wait_well(child as i32)?;
    stage.still_served()
}

/// A child of its own gets handlers of this program, which it takes back by copying tables.
fn poorer_table_of_a_grate(stage: &Stage) -> Outcome {
    let me = sys::own_id();
    let (go, ready) = pipe()?;
    let child = forked(|| {
        close(ready);
        while sys::read(go, &mut [0; 1]) == Err(sys::Errno(4)) {}
        let own = sys::own_id();
        // A child of its own has the handlers too, and its table is no poorer.
        let grandchild = forked(|| {
            pause(20);
            0
        });
        let Ok(grandchild) = grandchild else { return 3 };
        for number in [102, 104] {
            register(own, number, DEREGISTER, UNUSED);
            register(grandchild as u64, number, DEREGISTER, UNUSED);
        }
        for from in [me, grandchild as u64, stage.grate().unwrap_or(0)] {
            copy_table(from, own);
        }
        let seen = (call(102, &[]), call(104, &[]));
        let _ = wait(grandchild);
        println!("{seen:?}");
        i32::from(seen != (7102, 7102))
    })?;
    close(go);
    let handler = super::own::seven_index();
    for number in [102, 104] {
        expect(
            "register",
            register(child as u64, number, me, handler),
            &[0],
        )?;
    }
    close(ready);
    wait_well(child)?;
    stage.still_served()
}

/// One random call of 3i about these cages.
fn any(dice: &mut Dice, cages: &[u64]) -> i32 {
    let me = sys::own_id();
    let cage = |dice: &mut Dice| {
        let cage = dice.pick(cages);
        if dice.roll(8) == 0 { cage | FLAG } else { cage }
    };
    let numbers = [
        0, 1, 2, 3, 9, 18, 39, 56, 59, 102, 231, 257, 1001, 1002, 1003, 1100,
    ];
    match dice.roll(8) {
        0..=2 => {
            let (on, by) = (cage(dice), cage(dice));
            let number = dice.pick(&numbers);
            register(on, number, by, dice.roll(12))
        }
        3 | 4 => {
            let on = cage(dice);
            register(on, dice.pick(&numbers), DEREGISTER, UNUSED)
        }
        5 | 6 => copy_table(cage(dice), cage(dice)),
        _ => {
            let mut place = [0u8; 64];
            let here = address(place.as_mut_ptr());
            let ends = [here, 0, here + 32];
            let from = arg(dice.pick(&ends), cage(dice));
            let to = arg(dice.pick(&ends), cage(dice));
            let len = dice.pick(&[0, 1, 32, 64]);
            raw(COPY_DATA, me, &[from, to, own(len), own(dice.roll(3))])
        }
    }
}

fn orders(stage: &Stage) -> Outcome {
    for seed in 1..=stage.tries.div_ceil(200) {
        // In a child: what it registers on itself is its own loss.
        let child = forked(|| {
            let mut dice = Dice::new(seed);
            let me = sys::own_id();
            let idle = forked(|| {
                pause(5);
                0
            });
            let mut cages = vec![me, me - 1, 1, 0, 4_000_000, 500, u64::MAX];
            cages.extend(stage.grate());
            cages.extend(idle.iter().map(|&child| child as u64));
            for _ in 0..200 {
                any(&mut dice, &cages);
            }
            // It serves itself or not; it must not get past who is above.
            write(1, MARK);
            let fd = open(c"/open/still.log", O_CREAT | O_WRONLY | O_APPEND, 0o644);
            write(fd, MARK);
            0
        })?;
        wait_or_kill(child)?;
    }
    stage.still_served()
}

/// Two that may both register on the second. In children: what they do to themselves by it is
/// their own loss.
fn at_once(stage: &Stage) -> Outcome {
    let rounds = stage.tries;
    let first = forked(|| {
        let me = sys::own_id();
        let second = forked(|| {
            let own = sys::own_id();
            let mut dice = Dice::new(77);
            for _ in 0..rounds {
                any(&mut dice, &[own, me]);
                for number in [39, 102, 104] {
                    register(own, number, DEREGISTER, UNUSED);
                }
                call(102, &[]);
            }
            write(1, MARK);
            0
        });
        let Ok(second) = second else { return 1 };
        let mut dice = Dice::new(78);
        while sys::waitpid(second, 1) == Ok((0, 0)) {
            any(&mut dice, &[me, second as u64]);
            register(second as u64, 102, me, super::own::seven_index());
            register(second as u64, 102, DEREGISTER, UNUSED);
            copy_table(me, second as u64);
        }
        write(1, MARK);
        0
    })?;
    wait_or_kill(first)?;
    stage.still_served()
}

fn copies(_: &Stage) -> Outcome {
    let me = sys::own_id();
    // No string ends there.
    let mut place = [b'x'; 64];
    let here = address(place.as_mut_ptr());
    let good = [here, here + 32];
    for len in [1 << 31, 1 << 32, (1 << 32) + 1, 1 << 62, 1 << 63, u64::MAX] {
        let args = [own(good[0]), own(good[1]), own(len), own(0)];
        expect(
            format!("{len:#x} bytes"),
            raw(COPY_DATA, me, &args),
            &[ABORTED],
        )?;
    }
    for kind in [2, 3, 1 << 32, u64::MAX] {
        let args = [own(good[0]), own(good[1]), own(8), own(kind)];
        expect(
            format!("kind {kind:#x}"),
            raw(COPY_DATA, me, &args),
            &[ABORTED],
        )?;
    }
    for wild in super::addresses::wild()? {
        for (from, to) in [(wild, here), (here, wild)] {
            for kind in [0, 1] {
                let args = [own(from), own(to), own(32), own(kind)];
                let got = raw(COPY_DATA, me, &args);
                expect(
                    format!("{from:#x} to {to:#x}, kind {kind}"),
                    got,
                    &[ABORTED],
                )?;
            }
        }
    }
    Ok(())
}

/// A program that has been exec'ed under someone's handlers can't shed them either.
fn after_exec(stage: &Stage) -> Outcome {
    let me = sys::own_id();
    let (go, ready) = pipe()?;
    let child = forked(|| {
        close(ready);
        while sys::read(go, &mut [0; 1]) == Err(sys::Errno(4)) {}
        let args = [
            c"/bin/hostile.cwasm",
            c"taking back each of its grate's handlers",
            c"below",
            c"1",
        ];
        let args = args.map(|text| text.as_ptr().cast());
        // SAFETY: strings that live for ever.
        unsafe { sys::execve(args[0], &args, &[]) };
        9
    })?;
    close(go);
    let handler = super::own::seven_index();
    expect("register", register(child as u64, 102, me, handler), &[0])?;
    close(ready);
    wait_well(child)?;
    stage.still_served()
}
