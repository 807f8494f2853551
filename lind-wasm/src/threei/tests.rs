//! Every edge of authority, on cages without threads whose calls are made directly. Their handlers
//! answer 7.

use super::*;
use crate::cage::{Cage, CageId, WaitStatus};
use crate::posix::testing::Fixture;
use crate::regions::{Backing, Prot};
use crate::request::UNUSED;
use calls::{CALLS, EXECVE, GRATE_MEMORY_FLAG};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const MUNMAP: u32 = 11;
const GETPID: u32 = 39;
const GETUID: u32 = 102;
const GETPPID: u32 = 110;
const HANDLED: i32 = 7;
const PRIVATE: u32 = 3000;
const EPERM: i32 = -1;
const ESRCH: i32 = -3;
const EIO: i32 = -5;

/// How a call is refused that names what it may not.
fn refusal(nr: u32) -> i32 {
    if nr == COPY_DATA { ABORTED } else { EPERM }
}

/// A call for itself, whose arguments a test changes.
fn request(cage: &Cage, nr: u32) -> Request {
    let own = cage.id.raw();
    Request {
        nr,
        own,
        target: own,
        args: [UNUSED; 6].map(|value| Arg { value, cage: own }),
    }
}

/// The registration of a handler of `grate` on `target`. What stands beside its place in the
/// function table names nobody.
fn registration(caller: &Cage, target: &Cage, nr: u32, grate: u64) -> Request {
    let mut call = request(caller, REGISTER_HANDLER);
    call.args[0] = Arg {
        value: target.id.raw(),
        cage: nr.into(),
    };
    call.args[1].cage = grate;
    // A number, and nobody's, as grates made for Lind have it.
    call.args[2] = Arg { value: 1, cage: 0 };
    call
}

/// Has `act` be what that grate does for a call.
fn serve(
    fixture: &Fixture,
    caller: &Arc<Cage>,
    mut call: Request,
    grate: CageId,
    act: impl FnOnce() -> Result<i32, Errno>,
) -> Result<i32, Errno> {
    let image = fixture.rt.cage(grate).unwrap().image().unwrap();
    let server = (grate, image.service());
    as_caller(fixture, caller, |caller| {
        authority::judge(caller, &mut call, |call, judged| {
            authority::serving(server, call.nr, judged.speaker(caller), judged, act)
        })?
    })
}

/// A caller for what is asked of authority itself.
fn as_caller<T>(fixture: &Fixture, cage: &Arc<Cage>, act: impl FnOnce(&Caller<'_>) -> T) -> T {
    frames::look(|frames| {
        let origin = Origin { cage, image: None };
        act(&Caller {
            rt: &fixture.rt,
            origin,
            frames,
        })
    })
}

struct Family {
    fixture: Fixture,
    /// Made by nobody; made `program`.
    grate: Arc<Cage>,
    /// Made `child`.
    program: Arc<Cage>,
    child: Arc<Cage>,
    /// What each cage remembers of its routes from one call to the next, as an instance does.
    known: Mutex<HashMap<CageId, KnownRoutes>>,
}

impl Family {
    /// Grate, program and child, before anybody registered anything.
    fn new() -> Self {
        let fixture = Fixture::new();
        let grate = fixture.cage.clone();
        let program = fixture.fork(&grate);
        program.has_execed();
        let child = fixture.fork(&program);
        Self {
            fixture,
            grate,
            program,
            child,
            known: Mutex::default(),
        }
    }

    /// The same, with a handler of the grate for `nr` on the program, and a child made after that.
    fn served(nr: u32) -> Self {
        let mut family = Self::new();
        assert_eq!(family.register(&family.grate, &family.program, nr), 0);
        family.child = family.fixture.fork(&family.program);
        family
    }

    fn dispatch(&self, caller: &Arc<Cage>, mut request: Request) -> i32 {
        let known = self.known.lock().unwrap().remove(&caller.id);
        let mut known = known.unwrap_or_default();
        let image = caller.image().ok();
        let origin = Origin {
            cage: caller,
            image: image.as_ref(),
        };
        let answer = super::dispatch(&self.fixture.rt, origin, &mut known, &mut request);
        self.known.lock().unwrap().insert(caller.id, known);
        answer
    }

    /// Whether a call is judged to name nothing but what is its caller's to name.
    fn is_right(&self, caller: &Arc<Cage>, call: &mut Request) -> bool {
        as_caller(&self.fixture, caller, |caller| {
            authority::judge(caller, call, |_, _| ()).is_ok()
        })
    }

    /// Which cage a caller may name by that number.
    fn named(&self, caller: &Arc<Cage>, id: CageId) -> Result<CageId, Errno> {
        as_caller(&self.fixture, caller, |caller| {
            authority::named(caller, id.raw()).map(|named| named.cage.id)
        })
    }

    /// Runs `work` while `grate` serves that call.
    fn serving(&self, grate: CageId, caller: &Arc<Cage>, call: Request, work: impl FnOnce()) {
        let work = || {
            work();
            Ok(1)
        };
        assert_eq!(serve(&self.fixture, caller, call, grate, work), Ok(1));
    }

    fn call(&self, caller: &Arc<Cage>, nr: u32) -> i32 {
        self.dispatch(caller, request(caller, nr))
    }

    fn on(&self, caller: &Arc<Cage>, nr: u32, target: &Cage) -> i32 {
        let target = target.id.raw();
        self.dispatch(
            caller,
            Request {
                target,
                ..request(caller, nr)
            },
        )
    }

    /// `caller` registers a handler of `grate` on `target`.
    fn register_for(&self, caller: &Arc<Cage>, target: &Cage, nr: u32, grate: u64) -> i32 {
        self.dispatch(caller, registration(caller, target, nr, grate))
    }

    fn register(&self, caller: &Arc<Cage>, target: &Cage, nr: u32) -> i32 {
        self.register_for(caller, target, nr, caller.id.raw())
    }

    fn deregister(&self, caller: &Arc<Cage>, target: &Cage, nr: u32) -> i32 {
        self.register_for(caller, target, nr, DEREGISTER)
    }

    fn copy_table(&self, caller: &Arc<Cage>, source: &Cage, target: &Cage) -> i32 {
        let mut call = request(caller, COPY_TABLE);
        call.args[0] = Arg {
            value: source.id.raw(),
            cage: target.id.raw(),
        };
        self.dispatch(caller, call)
    }
}

/// Neither parents, children, grandchildren nor strangers are anybody's to name, as the target or
/// as the cage of any argument of any call, whether a grate would serve it or not.
#[test]
fn nobody_else_is_named() {
    let family = Family::new();
    let stranger = family.fixture.fork(&family.grate);
    let all = [&family.grate, &family.program, &family.child, &stranger];
    for caller in all {
        for other in all.into_iter().filter(|other| other.id != caller.id) {
            for nr in [GETPID, PRIVATE, COPY_DATA] {
                assert_eq!(family.on(caller, nr, other), refusal(nr), "{nr}");
            }
            for call in CALLS {
                for (index, kind) in call.args.iter().enumerate() {
                    if call.nr == REGISTER_HANDLER || call.nr == COPY_TABLE && index < 2 {
                        continue; // Numbers.
                    }
                    for flag in [0, GRATE_MEMORY_FLAG] {
                        let mut wrong = request(caller, call.nr);
                        wrong.args[index] = Arg {
                            value: 0,
                            cage: other.id.raw() | flag,
                        };
                        let answer = family.dispatch(caller, wrong);
                        assert_eq!(answer, refusal(call.nr), "{} {index} {kind:?}", call.name);
                    }
                }
            }
        }
        // Nor does anybody speak for another.
        let own = all.map(|cage| cage.id.raw()).into_iter();
        for own in own
            .filter(|&own| own != caller.id.raw())
            .chain([0, u64::MAX])
        {
            let call = Request {
                own,
                ..request(caller, GETPID)
            };
            assert_eq!(family.dispatch(caller, call), EPERM);
        }
    }
    for nobody in [0, 500, 777_777, 1 << 32, u64::MAX] {
        let call = Request {
            target: nobody,
            ..request(&family.grate, GETPID)
        };
        assert_eq!(family.dispatch(&family.grate, call), ESRCH);
    }
}

/// What a call does not have belongs to the target, whatever stands there.
#[test]
fn arguments_that_a_call_does_not_have_name_nobody() {
    let family = Family::new();
    let own = family.program.id.raw();
    for cage in [
        family.grate.id.raw(),
        77,
        UNUSED,
        UNUSED & !GRATE_MEMORY_FLAG,
        0,
        u64::MAX,
    ] {
        let mut call = request(&family.program, GETPID);
        call.args.iter_mut().for_each(|arg| arg.cage = cage);
        assert!(family.is_right(&family.program, &mut call));
        assert!(call.args.iter().all(|arg| arg.cage == own));
    }
    // An argument that is there may go without a cage, too.
    let mut call = request(&family.program, 0);
    call.args[2].cage = UNUSED;
    assert!(family.is_right(&family.program, &mut call));
    assert_eq!(call.args[2].cage, own);
    // A private number's arguments all count.
    let mut call = request(&family.program, PRIVATE);
    call.args[5].cage = family.grate.id.raw();
    assert_eq!(family.dispatch(&family.program, call), EPERM);
}

/// A maker may register, and a grate may name its program and what that forks; nobody may name
/// the grate for that.
#[test]
fn a_grate_may_name_those_it_serves() {
    let family = Family::served(PRIVATE);
    let (grate, program, child) = (&family.grate, &family.program, &family.child);
    for served in [program, child] {
        assert_eq!(family.on(grate, GETPID, served), served.id.pid());
        let mut call = request(grate, COPY_DATA);
        call.args[0] = Arg {
            value: 4096,
            cage: served.id.raw(),
        };
        call.args[1].value = 8192;
        call.args[2].value = 8;
        call.args[3].value = 0;
        assert_eq!(family.dispatch(grate, call), 8192);
        assert_eq!(family.on(served, GETPID, grate), EPERM);
        assert_eq!(family.call(served, PRIVATE), HANDLED);
    }
    assert_eq!(family.on(program, GETPID, child), EPERM);
    assert_eq!(family.on(child, GETPID, program), EPERM);
    // What was forked before is not served, and not the grate's to name.
    let other = Family::new();
    assert_eq!(other.register(&other.grate, &other.program, PRIVATE), 0);
    assert_eq!(other.on(&other.grate, GETPID, &other.child), EPERM);
}

#[test]
fn who_may_register() {
    let family = Family::new();
    let (grate, program, child) = (&family.grate, &family.program, &family.child);
    // Upwards, sideways, over the head of the maker: no.
    let stranger = family.fixture.fork(grate);
    for (caller, target) in [
        (program, grate),
        (child, program),
        (child, grate),
        (grate, child),
        (program, &stranger),
    ] {
        assert_eq!(family.register(caller, target, GETPID), EPERM);
        assert_eq!(family.copy_table(caller, target, caller), EPERM);
        assert_eq!(family.copy_table(caller, caller, target), EPERM);
        assert_eq!(family.deregister(caller, target, GETPID), EPERM);
    }
    // On what one made, and on oneself: yes; with somebody else's handlers: no.
    assert_eq!(
        family.register_for(program, child, GETPID, grate.id.raw()),
        EPERM
    );
    assert_eq!(
        family.register_for(program, child, GETPID, child.id.raw()),
        EPERM
    );
    assert_eq!(family.register(program, child, GETPID), 0);
    assert_eq!(family.call(child, GETPID), HANDLED);
    assert_eq!(family.register(child, child, GETPID), 0);
    // Whose grate one is: yes, with its handlers too.
    assert_eq!(family.register(grate, program, PRIVATE), 0);
    let late = family.fixture.fork(program);
    assert_eq!(family.register(grate, &late, GETPID), 0);
    assert_eq!(
        family.register_for(grate, &late, GETPID, program.id.raw()),
        0
    );
    assert_eq!(family.register_for(grate, &late, GETPID, 77), NO_SUCH_CAGE);
}

/// A forked child may register its maker's handlers on itself until it has become another
/// program, and that program can't take them back.
#[test]
fn a_child_registers_its_makers_handlers_on_itself() {
    let family = Family::new();
    let child = family.fixture.fork(&family.grate);
    let maker = family.grate.id.raw();
    assert_eq!(family.register_for(&child, &child, GETPID, maker), 0);
    assert_eq!(
        family.register_for(&child, &family.program, GETPID, maker),
        EPERM
    );
    child.has_execed();
    assert_eq!(family.register_for(&child, &child, GETPID, maker), EPERM);
    assert_eq!(family.deregister(&child, &child, GETPID), EPERM);
    assert_eq!(family.call(&child, GETPID), HANDLED);
    assert_eq!(family.on(&family.grate, PRIVATE, &child), -38);
    // Another's, that of the maker's maker: no.
    let grandchild = family.fixture.fork(&child);
    assert_eq!(
        family.register_for(&grandchild, &grandchild, GETPID, maker),
        EPERM
    );
}

/// What a grate put on a program goes away neither by taking it back nor by a poorer table, and
/// registering beside it replaces nothing.
#[test]
fn nobody_sheds_a_grate() {
    let family = Family::served(GETPID);
    let (grate, program, child) = (&family.grate, &family.program, &family.child);
    let bare = family.fixture.fork(program);
    bare.handlers.clear();
    assert_eq!(family.deregister(program, program, GETPID), EPERM);
    assert_eq!(family.deregister(program, child, GETPID), EPERM);
    assert_eq!(family.copy_table(program, &bare, child), EPERM);
    assert_eq!(family.copy_table(program, &bare, program), EPERM);
    assert_eq!(family.register(program, child, GETPID), 0);
    assert_eq!(family.deregister(program, child, GETPID), 0);
    assert_eq!(family.call(child, GETPID), HANDLED);
    // The grate itself may.
    assert_eq!(family.deregister(grate, child, GETPID), 0);
    assert_eq!(family.call(child, GETPID), child.id.pid());
}

/// While a grate serves a call it may name what the call names, and not a moment longer.
#[test]
fn serving_lends_what_the_call_names() {
    let family = Family::new();
    let (grate, program, child) = (&family.grate, &family.program, &family.child);
    family.serving(grate.id, program, request(program, GETPID), || {
        assert_eq!(family.named(grate, program.id), Ok(program.id));
        assert_eq!(family.named(grate, child.id), Err(Errno::PERM));
        // Not the served one's to use, nor anybody else's.
        assert_eq!(family.named(child, program.id), Err(Errno::PERM));
    });
    assert_eq!(family.named(grate, program.id), Err(Errno::PERM));
    // The number in 1001 is no cage, though one has that number. The one that asks is not who the
    // call that is served is of.
    let mut call = request(program, REGISTER_HANDLER);
    call.args[0] = Arg {
        value: program.id.raw(),
        cage: grate.id.raw(),
    };
    family.serving(child.id, program, call, || {
        assert_eq!(family.named(child, grate.id), Err(Errno::PERM));
    });
}

/// When one of its grates is gone, every call of a cage fails, and of what it forks, but its end.
#[test]
fn without_a_grate_nothing_is_served() {
    let family = Family::served(PRIVATE);
    let (grate, program, child) = (&family.grate, &family.program, &family.child);
    // A grate of the program's own beside it.
    assert_eq!(family.register(program, child, GETPID), 0);
    family.fixture.rt.end(grate, WaitStatus::exited(0));
    for orphan in [program, child, &family.fixture.fork(program)] {
        for call in CALLS.iter().filter(|call| !call.is_of_the_thread()) {
            let answer = if call.nr == COPY_DATA { ABORTED } else { EIO };
            assert_eq!(family.call(orphan, call.nr), answer, "{}", call.name);
        }
        assert_eq!(family.call(orphan, PRIVATE), EIO);
        assert_eq!(family.call(orphan, 57), EIO);
    }
    let task = program.crew.begin();
    let _on = task.occupy();
    task.enter_call(EXIT_GROUP);
    assert_eq!(family.call(program, EXIT_GROUP), 0);
    assert!(task.take_pending(|| false).is_some());
}

/// A program that becomes another serves no more than one that has ended.
#[test]
fn a_grate_that_becomes_another_program_is_gone() {
    let family = Family::served(PRIVATE);
    family.grate.set_image(None);
    assert_eq!(family.call(&family.program, GETPID), EIO);
}

/// Forking, becoming another program and ending are a thread's own, also for its grate.
#[test]
fn nobody_forks_or_ends_for_another() {
    let family = Family::served(PRIVATE);
    let task = family.program.crew.begin();
    for call in CALLS.iter().filter(|call| call.is_of_the_thread()) {
        task.enter_call(call.nr);
        let answer = family.on(&family.grate, call.nr, &family.program);
        assert_eq!(answer, EPERM, "{}", call.name);
        // On the program's own thread, but in another call.
        let _on = task.occupy();
        task.enter_call(GETPID);
        let answer = family.on(&family.grate, call.nr, &family.program);
        assert_eq!(answer, EPERM, "{}", call.name);
        assert!(task.take_pending(|| false).is_none());
    }
    // In such a call, but of another of its threads.
    let _on = task.occupy();
    let account = family.program.account.clone();
    let other = family.program.crew.join(1000, &account).unwrap();
    other.enter_call(EXIT_GROUP);
    assert_eq!(family.on(&family.grate, EXIT_GROUP, &family.program), EPERM);
    task.enter_call(EXIT_GROUP);
    assert_eq!(family.on(&family.grate, EXIT_GROUP, &family.program), 0);
}

/// What an instance remembers is right after each change of its table, whoever made that.
#[test]
fn what_is_remembered_of_routes_ends_with_each_change() {
    let family = Family::new();
    let (grate, program) = (&family.grate, &family.program);
    let rt = &family.fixture.rt;
    let mut known = KnownRoutes::default();
    let mut leads = |cage: &Arc<Cage>| match known.way(&cage.handlers, GETPID) {
        Way::Kernel => None,
        Way::Handler(hop) => Some(hop.grate),
        Way::Orphaned => panic!("all grates are there"),
    };
    assert_eq!(leads(program), None);
    assert_eq!(family.register(grate, program, GETPID), 0);
    assert_eq!(leads(program), Some(grate.id));
    // Another one in front of it, and gone again.
    assert_eq!(family.register(program, program, GETPID), 0);
    assert_eq!(leads(program), Some(program.id));
    assert_eq!(family.deregister(program, program, GETPID), 0);
    assert_eq!(leads(program), Some(grate.id));
    assert_eq!(family.deregister(grate, program, GETPID), 0);
    assert_eq!(leads(program), None);
    // Another table in its place.
    let other = family.fixture.fork(program);
    assert_eq!(family.register(program, &other, GETPID), 0);
    assert_eq!(family.copy_table(program, &other, program), 0);
    assert_eq!(leads(program), Some(program.id));
    program.handlers.clear();
    assert_eq!(leads(program), None);
    // A fork's table is its own from the start, and so are the changes to either.
    assert_eq!(family.register(grate, program, GETPID), 0);
    assert_eq!(leads(program), Some(grate.id));
    let late = family.fixture.fork(program);
    assert_eq!(leads(&late), Some(grate.id));
    assert_eq!(family.deregister(grate, &late, GETPID), 0);
    assert_eq!(leads(&late), None);
    assert_eq!(leads(program), Some(grate.id));
    // Numbers that share a place in what is remembered.
    for nr in [GETPID + 32, GETPID, GETPID + 64, GETPID] {
        let served = matches!(known.way(&program.handlers, nr), Way::Handler(_));
        assert_eq!(served, nr == GETPID);
    }
    rt.end(grate, WaitStatus::exited(0));
    assert!(matches!(
        known.way(&program.handlers, GETPID),
        Way::Orphaned
    ));
    assert!(matches!(
        known.way(&program.handlers, PRIVATE),
        Way::Orphaned
    ));
}

/// A call that begins after a change is there goes by it, and not by what was before, whatever its
/// thread remembers, while handlers come and go.
#[test]
fn calls_go_by_the_table_of_when_they_begin() {
    const TURNS: u32 = 2000;
    let family = Family::new();
    let (grate, program) = (&family.grate, &family.program);
    let rt = &family.fixture.rt;
    // Steps: 0 there is no handler, 1 one comes, 2 there is one, 3 it goes; and so on.
    let step = AtomicU32::new(0);
    let seen: u32 = thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut known = KnownRoutes::default();
                    let origin = Origin {
                        cage: program,
                        image: None,
                    };
                    let mut seen = 0;
                    loop {
                        let before = step.load(Ordering::SeqCst);
                        let mut call = request(program, GETPID);
                        let answer = super::dispatch(rt, origin, &mut known, &mut call);
                        let after = step.load(Ordering::SeqCst);
                        if before == after && before.is_multiple_of(2) {
                            let there = before % 4 == 2;
                            let right = if there { HANDLED } else { program.id.pid() };
                            assert_eq!(answer, right);
                            seen += 1;
                        }
                        if after == 4 * TURNS {
                            return seen;
                        }
                    }
                })
            })
            .collect();
        for _ in 0..TURNS {
            for change in [Family::register, Family::deregister] {
                step.fetch_add(1, Ordering::SeqCst);
                assert_eq!(change(&family, grate, program, GETPID), 0);
                step.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
            }
        }
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .sum()
    });
    assert!(seen > 0);
}

/// A grate that ends, or becomes another program, while calls come: each is answered by it, or fails.
/// None gets past it.
#[test]
fn calls_fail_from_the_end_of_a_grate_on() {
    for ends in [true, false] {
        let family = Family::served(GETPID);
        let (grate, program) = (&family.grate, &family.program);
        let rt = &family.fixture.rt;
        let is_gone = std::sync::atomic::AtomicBool::new(false);
        let served = AtomicU32::new(0);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut known = KnownRoutes::default();
                    let origin = Origin {
                        cage: program,
                        image: None,
                    };
                    let mut after = 0;
                    while after < 100 {
                        let was_gone = is_gone.load(Ordering::SeqCst);
                        let mut call = request(program, GETPID);
                        match super::dispatch(rt, origin, &mut known, &mut call) {
                            HANDLED if !was_gone => served.fetch_add(1, Ordering::SeqCst),
                            answer => {
                                assert_eq!(answer, EIO);
                                after += 1;
                                0
                            }
                        };
                    }
                });
            }
            while served.load(Ordering::SeqCst) < 100 {
                thread::yield_now();
            }
            if ends {
                rt.end(grate, WaitStatus::exited(0));
            } else {
                grate.set_image(None);
            }
            is_gone.store(true, Ordering::SeqCst);
        });
    }
}

/// Whether the host has something at an address.
fn is_mapped(address: *const u8) -> bool {
    let mut resident = 0;
    // SAFETY: asks the kernel about a page, whatever is there; the answer is one byte.
    unsafe { libc::mincore(address.cast_mut().cast(), 4096, &raw mut resident) == 0 }
}

/// What a route leads to keeps no memory of a grate that is gone, nor does what is remembered of it.
#[test]
fn routes_keep_no_memory_of_a_grate() {
    let family = Family::new();
    // Another test may get the same place for a memory in that moment.
    let goes = (0..20).any(|_| {
        let grate = family.fixture.fork(&family.program);
        let program = family.fixture.fork(&grate);
        assert_eq!(family.register(&grate, &program, GETPID), 0);
        assert_eq!(family.call(&program, GETPID), HANDLED);
        let (image, place) = {
            let image = grate.image().unwrap();
            let place = image.memory.shared().data().as_ptr().cast();
            (Arc::downgrade(&image), place)
        };
        assert!(is_mapped(place));
        family.fixture.rt.end(&grate, WaitStatus::exited(0));
        assert!(image.upgrade().is_none());
        assert_eq!(family.call(&program, GETPID), EIO);
        !is_mapped(place)
    });
    assert!(goes);
}

/// A grate copies from who it serves, whose program may become another or end meanwhile, as may the
/// grate's own. Addresses of the one mean nothing in the other.
#[test]
fn addresses_are_of_the_program_that_made_the_call() {
    const AT: u64 = 4096;
    let family = Family::new();
    let (rt, grate, program) = (&family.fixture.rt, &family.grate, &family.program);
    let (mine, its) = (grate.image().unwrap(), program.image().unwrap());
    its.memory.write(AT, b"old").unwrap();
    let origin = |cage, image| Origin {
        cage,
        image: Some(image),
    };
    let copied = || {
        let mut call = request(grate, COPY_DATA);
        call.args[0] = Arg {
            value: AT,
            cage: program.id.raw(),
        };
        call.args[1].value = 2 * AT;
        call.args[2].value = 3;
        call.args[3].value = 0;
        let mut known = KnownRoutes::default();
        match super::dispatch(rt, origin(grate, &mine), &mut known, &mut call) {
            ABORTED => None,
            _ => {
                let image = grate.image().unwrap();
                Some(image.memory.read_array::<3>(2 * AT).unwrap())
            }
        }
    };
    assert_eq!(copied(), None);
    let mut call = request(program, PRIVATE);
    let served = frames::look(|frames| {
        let caller = Caller {
            rt,
            origin: origin(program, &its),
            frames,
        };
        authority::judge(&caller, &mut call, |_, judged| {
            let server = (grate.id, mine.service());
            authority::serving(server, PRIVATE, caller.origin, judged, || {
                assert_eq!(copied(), Some(*b"old"));
                // Pages that go are gone at once.
                its.memory.unmap(AT, AT).unwrap();
                assert_eq!(copied(), None);
                its.memory
                    .map(Some(AT), AT, Prot::all(), Backing::Private)
                    .unwrap();
                assert_eq!(copied(), Some([0; 3]));
                // It serves no more, and runs on: its addresses are what they were.
                its.retire();
                assert_eq!(copied(), Some([0; 3]));
                // It becomes another program, of which the call names nothing.
                let fork = family.fixture.fork(program);
                let new = fork.image().unwrap();
                new.memory.write(AT, b"new").unwrap();
                program.set_image(Some(new));
                assert_eq!(copied(), None);
                program.set_image(Some(its.clone()));
                assert_eq!(copied(), Some([0; 3]));
                // So does the grate: nothing comes to where its new program has something else, and
                // none of that is taken away.
                let other = family.fixture.fork(grate).image().unwrap();
                other.memory.write(2 * AT, b"its").unwrap();
                grate.set_image(Some(other.clone()));
                assert_eq!(copied(), None);
                let mut call = request(grate, MUNMAP);
                call.args[0].value = 2 * AT;
                call.args[1].value = AT;
                let mut known = KnownRoutes::default();
                let answer = super::dispatch(rt, origin(grate, &mine), &mut known, &mut call);
                assert_eq!(answer, ESRCH);
                assert_eq!(other.memory.read_array(2 * AT), Ok(*b"its"));
                assert_eq!(family.on(grate, GETPID, program), program.id.pid());
                rt.end(program, WaitStatus::exited(0));
                assert_eq!(copied(), None);
                assert_eq!(family.on(grate, GETPID, program), ESRCH);
                Ok(1)
            })
        })
    });
    assert_eq!(served, Ok(Ok(1)));
    assert_eq!(copied(), None);
}

/// A clamp, with a grate above it and one inside it, whose program it serves.
struct Clamp {
    fixture: Fixture,
    /// Serves a private number of `clamp`, and hence of all others.
    above: Arc<Cage>,
    clamp: Arc<Cage>,
    /// Made by `clamp`, which serves its `execve`; made `program`.
    inside: Arc<Cage>,
    program: Arc<Cage>,
}

impl Clamp {
    fn new() -> Self {
        let fixture = Fixture::new();
        let above = fixture.cage.clone();
        let clamp = fixture.fork(&above);
        register(&fixture, &above, &clamp, PRIVATE);
        let inside = fixture.fork(&clamp);
        register(&fixture, &clamp, &inside, EXECVE);
        let program = fixture.fork(&inside);
        Self {
            fixture,
            above,
            clamp,
            inside,
            program,
        }
    }

    fn register(&self, grate: &Arc<Cage>, target: &Cage, nr: u32) {
        register(&self.fixture, grate, target, nr);
    }

    /// Lets the clamp do something while it serves a call of that cage.
    fn serve(&self, served: &Arc<Cage>, act: impl FnOnce() -> i32) -> i32 {
        let call = request(served, GETPID);
        serve(&self.fixture, served, call, self.clamp.id, || Ok(act())).unwrap()
    }

    /// A call of the clamp's in the name of `own`.
    fn request_as(&self, own: u64, nr: u32, target: &Cage) -> Request {
        Request {
            own,
            target: target.id.raw(),
            ..request(&self.clamp, nr)
        }
    }

    /// What the clamp gets for that while it serves a cage.
    fn says_as(&self, own: u64, nr: u32, served: &Arc<Cage>, target: &Cage) -> i32 {
        let call = self.request_as(own, nr, target);
        self.serve(served, || {
            super::dispatch_for(&self.fixture.rt, &self.clamp, call)
        })
    }

    /// The same as clamps do it: in the name of who is inside, for the program.
    fn says(&self, nr: u32) -> i32 {
        let own = self.inside.id.raw();
        self.says_as(own, nr, &self.program, &self.program)
    }
}

fn register(fixture: &Fixture, caller: &Arc<Cage>, target: &Cage, nr: u32) {
    register_for(fixture, caller, target, nr, caller.id.raw());
}

fn register_for(fixture: &Fixture, caller: &Arc<Cage>, target: &Cage, nr: u32, grate: u64) {
    let call = registration(caller, target, nr, grate);
    assert_eq!(super::dispatch_for(&fixture.rt, caller, call), 0);
}

/// While it serves a call a grate may speak for a cage whose grate it is, and that one's table
/// counts.
#[test]
fn a_grate_speaks_for_a_cage_of_its_own() {
    let clamp = Clamp::new();
    let (inside, program) = (clamp.inside.id.raw(), &clamp.program);
    assert_eq!(clamp.says(GETPID), program.id.pid());
    clamp.register(&clamp.inside, &clamp.inside, GETUID);
    assert_eq!(clamp.says(GETUID), HANDLED);
    // Not when it serves nobody, nor for anybody else than who is served.
    let call = clamp.request_as(inside, GETPID, program);
    assert_eq!(
        super::dispatch_for(&clamp.fixture.rt, &clamp.clamp, call),
        EPERM
    );
    for other in [&clamp.above, &clamp.clamp, &clamp.inside] {
        assert_eq!(clamp.says_as(inside, GETPID, program, other), EPERM);
    }
    // Nor in the name of who is not its own, and be it who is served.
    let stranger = clamp.fixture.fork(&clamp.above);
    for other in [&clamp.above, &stranger] {
        let own = other.id.raw();
        assert_eq!(clamp.says_as(own, GETPID, program, program), EPERM);
        assert_eq!(clamp.says_as(own, GETPID, other, other), EPERM);
    }
    for nobody in [0, 500, 1 << 32, u64::MAX] {
        assert_eq!(clamp.says_as(nobody, GETPID, program, program), ESRCH);
    }
    clamp.fixture.rt.end(&clamp.inside, WaitStatus::exited(0));
    assert_eq!(clamp.says(GETPID), ESRCH);
}

/// What a cage alone can ask for, nobody asks for in its name.
#[test]
fn nobody_speaks_for_another_to_3i_nor_for_a_thread_nor_by_a_private_number() {
    let clamp = Clamp::new();
    clamp.register(&clamp.inside, &clamp.inside, PRIVATE);
    let threads = CALLS.iter().filter(|call| call.is_of_the_thread());
    let threads = threads.map(|call| call.nr);
    let gate = [REGISTER_HANDLER, COPY_DATA, COPY_TABLE];
    let task = clamp.program.crew.begin();
    let _on = task.occupy();
    for nr in threads.chain(gate).chain([PRIVATE, 57]) {
        task.enter_call(nr);
        assert_eq!(clamp.says(nr), refusal(nr), "{nr}");
    }
    assert!(task.take_pending(|| false).is_none());
}

/// Who speaks for another gets past nobody who stands above.
#[test]
fn speaking_for_another_leads_past_nobody() {
    let clamp = Clamp::new();
    // What is inside lacks what its clamp has.
    clamp.register(&clamp.above, &clamp.clamp, GETUID);
    assert_eq!(clamp.says(GETUID), EPERM);
    // It has that too, and the clamp's and its own above it.
    clamp.register(&clamp.above, &clamp.inside, GETUID);
    assert_eq!(clamp.says(GETUID), HANDLED);
    clamp.register(&clamp.clamp, &clamp.inside, GETUID);
    clamp.register(&clamp.inside, &clamp.inside, GETUID);
    assert_eq!(clamp.says(GETUID), HANDLED);
    // Its own below that, which is passed by then.
    clamp.register(&clamp.inside, &clamp.inside, GETPPID);
    clamp.register(&clamp.above, &clamp.inside, GETPPID);
    clamp.register(&clamp.above, &clamp.clamp, GETPPID);
    assert_eq!(clamp.says(GETPPID), EPERM);
    // What somebody above has put there alone: that one's calls need not pass who stands between.
    clamp.register(&clamp.above, &clamp.inside, GETPID);
    assert_eq!(clamp.says(GETPID), EPERM);
}

/// A thread may be in a handler of a grate that its own cage has no route to: its grate's grate.
/// Where that one ends it is interrupted all the same.
#[test]
fn who_is_in_a_handler_by_way_of_another_is_found() {
    let clamp = Clamp::new();
    let rt = &clamp.fixture.rt;
    let callers = |grate: &Cage| {
        let mut ids: Vec<_> = rt.callers_of(grate.id).iter().map(|cage| cage.id).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(callers(&clamp.inside), []);
    let inside = clamp.inside.id.raw();
    let call = registration(&clamp.clamp, &clamp.clamp, PRIVATE + 1, inside);
    clamp.serve(&clamp.inside, || {
        super::dispatch_for(rt, &clamp.clamp, call)
    });
    // The clamp has it, and serves who is inside and the program.
    let all = [&clamp.clamp, &clamp.inside, &clamp.program];
    assert_eq!(callers(&clamp.inside), all.map(|cage| cage.id));
    assert_eq!(callers(&clamp.above), all.map(|cage| cage.id));
    assert_eq!(callers(&clamp.clamp), all.map(|cage| cage.id));
    assert_eq!(callers(&clamp.program), []);
}

/// Where a grate of either is gone, it leads nowhere.
#[test]
fn speaking_for_another_fails_closed() {
    let clamp = Clamp::new();
    let other = clamp.fixture.fork(&clamp.clamp);
    clamp.register(&other, &other, GETUID);
    clamp.register(&clamp.clamp, &other, GETPID);
    let own = other.id.raw();
    let says = || clamp.says_as(own, GETUID, &clamp.program, &clamp.program);
    assert_eq!(says(), HANDLED);
    other.set_image(None);
    assert_eq!(says(), EIO);

    // A grate that the clamp has had since it made who is inside.
    let clamp = Clamp::new();
    let late = clamp.fixture.fork(&clamp.above);
    clamp.register(&clamp.above, &late, EXECVE);
    let grate = late.id.raw();
    register_for(&clamp.fixture, &clamp.above, &clamp.clamp, GETUID, grate);
    assert_eq!(clamp.says(GETPID), clamp.program.id.pid());
    late.set_image(None);
    assert_eq!(clamp.says(GETPID), EIO);
}

/// To who serves it then, the one in whose name it is made is lent, and not who made it.
#[test]
fn who_speaks_for_another_is_lent_to_nobody() {
    let clamp = Clamp::new();
    let (fixture, server) = (&clamp.fixture, &clamp.fixture.fork(&clamp.above));
    let call = clamp.request_as(clamp.inside.id.raw(), GETPID, &clamp.program);
    let served = clamp.serve(&clamp.program, || {
        serve(fixture, &clamp.clamp, call, server.id, || {
            let named = |cage: &Cage| {
                let id = cage.id.raw();
                as_caller(fixture, server, |server| {
                    authority::named(server, id).is_ok()
                })
            };
            assert!(named(&clamp.inside) && named(&clamp.program));
            assert!(!named(&clamp.clamp) && !named(&clamp.above));
            Ok(HANDLED)
        })
        .unwrap()
    });
    assert_eq!(served, HANDLED);
}
