//! Every edge of authority, on cages without threads whose calls are made directly. Their handlers
//! answer 7.

use super::*;
use crate::cage::{Cage, CageId, WaitStatus};
use crate::posix::testing::Fixture;
use crate::request::UNUSED;
use calls::{CALLS, EXECVE, GRATE_MEMORY_FLAG};

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

struct Family {
    fixture: Fixture,
    /// Made by nobody; made `program`.
    grate: Arc<Cage>,
    /// Made `child`.
    program: Arc<Cage>,
    child: Arc<Cage>,
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
        }
    }

    /// The same, with a handler of the grate for `nr` on the program, and a child made after that.
    fn served(nr: u32) -> Self {
        let mut family = Self::new();
        assert_eq!(family.register(&family.grate, &family.program, nr), 0);
        family.child = family.fixture.fork(&family.program);
        family
    }

    fn dispatch(&self, caller: &Arc<Cage>, request: Request) -> i32 {
        super::dispatch(&self.fixture.rt, caller, request)
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
        let judged = authority::judge(&family.fixture.rt, &family.program, &mut call);
        assert!(judged.is_ok());
        assert!(call.args.iter().all(|arg| arg.cage == own));
    }
    // An argument that is there may go without a cage, too.
    let mut call = request(&family.program, 0);
    call.args[2].cage = UNUSED;
    assert!(authority::judge(&family.fixture.rt, &family.program, &mut call).is_ok());
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
    let (rt, grate, program) = (&family.fixture.rt, &family.grate, &family.program);
    let mut call = request(program, GETPID);
    let judged = authority::judge(rt, program, &mut call).unwrap();
    let named = |id: CageId| authority::named(rt, grate, id.raw()).map(|cage| cage.id);
    let inside = authority::serving(grate.id, (PRIVATE, program.id), &judged, || {
        assert_eq!(named(program.id), Ok(program.id));
        assert_eq!(named(family.child.id), Err(Errno::PERM));
        // Not the served one's to use, nor anybody else's.
        let others = authority::named(rt, &family.child, program.id.raw());
        assert_eq!(others.map(|cage| cage.id), Err(Errno::PERM));
        Ok(1)
    });
    assert_eq!(inside, Ok(1));
    assert_eq!(named(program.id), Err(Errno::PERM));
    // The number in 1001 is no cage, though one has that number.
    let mut call = request(program, REGISTER_HANDLER);
    call.args[0] = Arg {
        value: program.id.raw(),
        cage: grate.id.raw(),
    };
    let judged = authority::judge(rt, program, &mut call).unwrap();
    let inside = authority::serving(
        family.child.id,
        (PRIVATE, family.program.id),
        &judged,
        || {
            let of_number = authority::named(rt, &family.child, grate.id.raw());
            assert_eq!(of_number.map(|cage| cage.id), Err(Errno::PERM));
            Ok(0)
        },
    );
    assert_eq!(inside, Ok(0));
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
        let call = (GETPID, served.id);
        let judged = authority::judge(&self.fixture.rt, served, &mut request(served, GETPID));
        authority::serving(self.clamp.id, call, &judged.unwrap(), || Ok(act())).unwrap()
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
            super::dispatch(&self.fixture.rt, &self.clamp, call)
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
    let answer = super::dispatch(&fixture.rt, caller, registration(caller, target, nr, grate));
    assert_eq!(answer, 0);
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
        super::dispatch(&clamp.fixture.rt, &clamp.clamp, call),
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
    let (rt, server) = (&clamp.fixture.rt, &clamp.fixture.fork(&clamp.above));
    let mut call = clamp.request_as(clamp.inside.id.raw(), GETPID, &clamp.program);
    let made = (GETPID, clamp.clamp.id);
    clamp.serve(&clamp.program, || {
        let judged = authority::judge(rt, &clamp.clamp, &mut call).unwrap();
        authority::serving(server.id, made, &judged, || {
            let named = |cage: &Cage| authority::named(rt, server, cage.id.raw()).is_ok();
            assert!(named(&clamp.inside) && named(&clamp.program));
            assert!(!named(&clamp.clamp) && !named(&clamp.above));
            Ok(0)
        })
        .unwrap()
    });
}
