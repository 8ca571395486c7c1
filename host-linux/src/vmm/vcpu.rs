//! A processor of a guest: a thread that runs it, and carries out what it does to devices.

use super::gate::{Gate, Hold};
use super::heartbeat::Heartbeat;
use super::layout::{DEVICES, VIRTIO_LEN};
use super::ports::{Ports, Wish};
use super::virtio::transport::Transport;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use vmm_sys_util::signal::{Killable as _, SIGRTMIN, register_signal_handler};

/// How a guest ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It wants to be off.
    PowerOff,
    /// It wants to begin anew; also what a processor does that cannot go on.
    Reset,
    /// KVM cannot run it: why.
    Failed(String),
    /// It was stopped from outside.
    Stopped,
}

/// What the processors of a guest share.
#[derive(Debug)]
pub struct Board {
    /// Its ports.
    pub ports: Ports,
    /// Whether it is alive, as it says itself.
    pub heartbeat: Heartbeat,
    /// Its virtio devices, in the order of their places.
    pub devices: Vec<Mutex<Transport>>,
    /// What its processors pass before they run.
    pub gate: Gate,
    /// One of its processors has ended, and the guest with it. Changed by who is inside the gate.
    pub has_ended: AtomicBool,
}

/// The processors of a guest, each with its thread. Dropped, they end.
#[derive(Debug)]
pub struct Processors {
    board: Arc<Board>,
    /// Each is locked by its thread while it is inside the gate.
    vcpus: Vec<Arc<Mutex<VcpuFd>>>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a processor is told to leave the guest that has not yet: it may have been on its way in.
const AGAIN: Duration = Duration::from_millis(1);
const STACK: usize = 128 << 10;

impl Board {
    fn device(&self, address: u64) -> Option<(&Mutex<Transport>, u64)> {
        let offset = address.checked_sub(DEVICES.start)?;
        let (number, register) = (offset / VIRTIO_LEN, offset % VIRTIO_LEN);
        Some((self.devices.get(usize::try_from(number).ok()?)?, register))
    }

    fn read(&self, address: u64, data: &mut [u8]) {
        match self.device(address) {
            Some((device, register)) => lock(device).read(register, data),
            None => data.fill(u8::MAX),
        }
    }

    fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, register)) = self.device(address) {
            lock(device).write(register, data);
        }
    }
}

/// A device, for who uses it.
pub fn lock(device: &Mutex<Transport>) -> MutexGuard<'_, Transport> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processors {
    /// Runs them, each on a thread, which tells how it ends.
    ///
    /// # Errors
    ///
    /// The system has no threads or no signal for them.
    pub fn start(
        vcpus: Vec<VcpuFd>,
        board: &Arc<Board>,
        tell: impl Fn(End) + Clone + Send + 'static,
    ) -> std::io::Result<Self> {
        register_signal_handler(SIGRTMIN(), interrupted)
            .map_err(|error| std::io::Error::from_raw_os_error(error.errno()))?;
        let vcpus = vcpus.into_iter().map(|vcpu| Arc::new(Mutex::new(vcpu))).collect();
        let mut processors = Self { board: Arc::clone(board), vcpus, threads: Vec::new() };
        for (number, vcpu) in processors.vcpus.iter().enumerate() {
            let (board, vcpu, tell) = (Arc::clone(board), Arc::clone(vcpu), tell.clone());
            let work = move || tell(run(&vcpu, &board));
            let thread = std::thread::Builder::new().name(format!("vcpu-{number}")).stack_size(STACK);
            processors.threads.push(thread.spawn(work)?);
        }
        Ok(processors)
    }

    /// Holds the guest for this reason: none of its instructions is carried out any more when this returns.
    pub fn hold(&self, why: Hold) {
        self.board.gate.hold(why);
        loop {
            self.threads.iter().for_each(interrupt);
            if self.board.gate.is_left_within(AGAIN) {
                break;
            }
        }
        // One that somebody has let in again already is not waited for.
        for vcpu in self.vcpus.iter().filter_map(|vcpu| vcpu.try_lock().ok()) {
            // Its watchdogs are told of the time that it does not see; a guest without KVM's clock has none.
            let _ = vcpu.kvmclock_ctrl();
        }
    }

    /// The processors, in their order. Who holds the guest has them to itself.
    pub fn vcpus(&self) -> impl Iterator<Item = MutexGuard<'_, VcpuFd>> {
        self.vcpus.iter().map(|vcpu| vcpu.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This is no reason any more to hold it.
    pub fn release(&self, why: Hold) {
        self.board.gate.release(why);
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        self.board.gate.end();
        for thread in self.threads.drain(..) {
            while !thread.is_finished() {
                interrupt(&thread);
                std::thread::sleep(AGAIN);
            }
            let _ = thread.join();
        }
    }
}

/// Has a processor leave the guest, if it is in it.
fn interrupt(thread: &JoinHandle<()>) {
    // One that has ended needs not be told.
    let _ = thread.kill(SIGRTMIN());
}

/// Does nothing: the signal ends `KVM_RUN`, which is all that it is for.
extern "C" fn interrupted(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// Runs a processor until the guest ends, or is stopped.
fn run(vcpu: &Mutex<VcpuFd>, board: &Board) -> End {
    while let Some(inside) = board.gate.pass() {
        let mut vcpu = vcpu.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(end) = run_until_closed(&mut vcpu, board) {
            board.has_ended.store(true, Ordering::SeqCst);
            return end;
        }
        // Who waits for nobody inside takes the processor next.
        drop(vcpu);
        drop(inside);
    }
    End::Stopped
}

/// Runs a processor until the gate closes, and leaves it between two instructions; or until the guest ends.
fn run_until_closed(vcpu: &mut VcpuFd, board: &Board) -> Option<End> {
    while !board.gate.is_closed() {
        if let Step::Ended(end) = step(vcpu, board) {
            return Some(end);
        }
    }
    // What the guest was in the middle of is done when it is entered again: it is entered, and left at once.
    vcpu.set_kvm_immediate_exit(1);
    let end = loop {
        match step(vcpu, board) {
            Step::Went => {}
            Step::Interrupted => break None,
            Step::Ended(end) => break Some(end),
        }
    };
    vcpu.set_kvm_immediate_exit(0);
    end
}

/// What came of entering a guest.
enum Step {
    /// It did something to a device.
    Went,
    /// It was told to leave.
    Interrupted,
    Ended(End),
}

fn step(vcpu: &mut VcpuFd, board: &Board) -> Step {
    let failed = |why: String| Step::Ended(End::Failed(why));
    let wish = match vcpu.run() {
        Ok(VcpuExit::IoOut(port, data)) => board.ports.write(port, data),
        Ok(VcpuExit::IoIn(port, data)) => {
            board.ports.read(port, data);
            None
        }
        Ok(VcpuExit::MmioRead(address, data)) => {
            board.read(address, data);
            None
        }
        Ok(VcpuExit::MmioWrite(address, data)) => {
            board.write(address, data);
            None
        }
        // It cannot go on: a PC resets then.
        Ok(VcpuExit::Shutdown) => Some(Wish::Reset),
        Ok(VcpuExit::Intr) => return Step::Interrupted,
        Ok(VcpuExit::FailEntry(why, _)) => return failed(format!("KVM cannot enter it: {why:#x}")),
        Ok(other) => return failed(format!("KVM stopped it: {other:?}")),
        Err(error) if error.errno() == libc::EINTR => return Step::Interrupted,
        // A processor that waits to be started by another one.
        Err(error) if error.errno() == libc::EAGAIN => return Step::Went,
        Err(error) => return failed(format!("KVM cannot run it: {error}")),
    };
    match wish {
        Some(Wish::Reset) => Step::Ended(End::Reset),
        Some(Wish::PowerOff) => Step::Ended(End::PowerOff),
        Some(Wish::Beat(value)) => {
            board.heartbeat.beat(value, board.gate.ran());
            Step::Went
        }
        Some(Wish::NoBeat) => {
            board.heartbeat.end();
            Step::Went
        }
        None => Step::Went,
    }
}
