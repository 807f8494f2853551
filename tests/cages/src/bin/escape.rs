//! Runs under at least one grate and tries to get away from it, or at it. Exits with 0 when all
//! of it was refused.

use cage_libc::sys::{self, Arg, UNUSED};

const REGISTER_HANDLER: u32 = 1001;
const COPY_DATA: u32 = 1002;
const COPY_TABLE: u32 = 1003;
const WRITE: u32 = 1;
const GETEUID: u32 = 107;
const EPERM: i32 = -1;
const ESRCH: i32 = -3;
const GONE: i32 = 0xE001_0002_u32 as i32;
const REFUSED_COPY: i32 = 0xE001_0001_u32 as i32;

fn arg(value: u64, cage: u64) -> Arg {
    Arg { value, cage }
}

fn call(nr: u32, own: u64, target: u64, first: &[Arg]) -> i32 {
    let mut args = [arg(UNUSED, sys::own_id()); 6];
    args[..first.len()].copy_from_slice(first);
    // SAFETY: addresses are those of live buffers, or another cage's that must be refused.
    unsafe { sys::call_3i(nr, own, target, &args) }
}

fn main() {
    let me = sys::own_id();
    // The grate that this program runs under made it, hence has a smaller number.
    let grate = me - 1;
    let mut failures = 0;
    let mut expect = |what: &str, got: i32, wanted: i32| {
        if got != wanted {
            println!("{what}: {got} instead of {wanted}");
            failures += 1;
        }
    };
    let uid = call(GETEUID, me, me, &[]);

    // Taking back what the grate registered.
    let deregister = |cage| {
        call(
            REGISTER_HANDLER,
            me,
            me,
            &[arg(cage, u64::from(GETEUID)), arg(UNUSED, 500)],
        )
    };
    expect("deregister its own", deregister(me), EPERM);
    expect("deregister the grate's", deregister(grate), EPERM);
    // Registering on or for others.
    let register = |cage, by| {
        let args = [arg(cage, u64::from(WRITE)), arg(UNUSED, by), arg(2, UNUSED)];
        call(REGISTER_HANDLER, me, me, &args)
    };
    expect("register on the grate", register(grate, me), EPERM);
    expect("register the grate as its own", register(me, grate), EPERM);
    // A richer or poorer table.
    expect(
        "copy the grate's table",
        call(COPY_TABLE, me, me, &[arg(grate, me)]),
        EPERM,
    );
    expect(
        "copy to the grate",
        call(COPY_TABLE, me, me, &[arg(me, grate)]),
        EPERM,
    );
    // Speaking for the grate, or acting on it.
    expect("as the grate", call(GETEUID, grate, grate, &[]), EPERM);
    expect("as nobody", call(GETEUID, 0, me, &[]), EPERM);
    expect(
        "kill the grate",
        call(62, me, me, &[arg(grate, me), arg(9, me)]),
        EPERM,
    );
    // The grate's memory and descriptors.
    let mut buffer = [0u8; 64];
    let own = arg(sys::address(buffer.as_mut_ptr()), me);
    let far = arg(4096, grate);
    let len = arg(64, UNUSED);
    expect(
        "read the grate's memory",
        call(COPY_DATA, me, me, &[far, own, len, arg(0, UNUSED)]),
        REFUSED_COPY,
    );
    expect(
        "write the grate's memory",
        call(COPY_DATA, me, me, &[own, far, len, arg(0, UNUSED)]),
        REFUSED_COPY,
    );
    let foreign = call(WRITE, me, me, &[arg(1, grate), own, len]);
    if foreign >= 0 {
        println!("write to the grate's descriptor: {foreign}");
        failures += 1;
    }
    let mut expect = |what: &str, got: i32, wanted: i32| {
        if got != wanted {
            println!("{what}: {got} instead of {wanted}");
            failures += 1;
        }
    };
    expect("a cage that is not there", register(4_000_000, me), GONE);
    let nowhere = call(39, me, 4_000_000, &[]);
    if nowhere != ESRCH && nowhere != me as i32 {
        expect("getpid of nobody", nowhere, ESRCH);
    }

    // A child is under the grate too, and what this program takes off it stays.
    match sys::fork() {
        Ok(0) => {
            let own = sys::own_id();
            let same = call(GETEUID, own, own, &[]) == uid;
            let kept = call(
                REGISTER_HANDLER,
                own,
                own,
                &[arg(own, u64::from(GETEUID)), arg(UNUSED, 500)],
            );
            std::process::exit(i32::from(!(same && kept == EPERM)))
        }
        Ok(child) => {
            let cage = child as u64;
            // It may have ended already.
            let taken = deregister(cage);
            if taken != GONE {
                expect("deregister for a child", taken, EPERM);
            }
            expect(
                "the child",
                sys::waitpid(child, 0).map_or(-1, |(_, status)| status),
                0,
            );
        }
        Err(errno) => expect("fork", -errno.0, 0),
    }
    expect("still the same", call(GETEUID, me, me, &[]), uid);
    std::process::exit(i32::from(failures > 0))
}
