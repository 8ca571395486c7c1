//! A processor of a guest: a thread that runs it, and carries out what it does to devices.

use super::layout::{DEVICES, VIRTIO_LEN};
use super::ports::{Ports, Wish};
use super::virtio::transport::Transport;
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::os::raw::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
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
    /// Its virtio devices, in the order of their places.
    pub devices: Vec<Mutex<Transport>>,
    stop: AtomicBool,
}

/// The threads of a guest's processors. Dropped, they end.
#[derive(Debug)]
pub struct Processors {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

/// How often a processor is told to stop that has not yet: it may have been on its way into the guest.
const AGAIN: Duration = Duration::from_millis(1);
const STACK: usize = 128 << 10;

impl Board {
    /// Ports and devices, for processors that are not stopped yet.
    #[must_use]
    pub const fn new(ports: Ports, devices: Vec<Mutex<Transport>>) -> Self {
        Self { ports, devices, stop: AtomicBool::new(false) }
    }

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

fn lock(device: &Mutex<Transport>) -> std::sync::MutexGuard<'_, Transport> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Processors {
    /// Runs them, each on a thread. The first of them that ends says how.
    ///
    /// # Errors
    ///
    /// The system has no threads or no signal for them.
    pub fn start(vcpus: Vec<VcpuFd>, board: &Arc<Board>, ended: &Sender<End>) -> std::io::Result<Self> {
        register_signal_handler(SIGRTMIN(), interrupted)
            .map_err(|error| std::io::Error::from_raw_os_error(error.errno()))?;
        let mut processors = Self { board: Arc::clone(board), threads: Vec::new() };
        for (number, mut vcpu) in vcpus.into_iter().enumerate() {
            let (board, ended) = (Arc::clone(board), ended.clone());
            let work = move || {
                let end = run(&mut vcpu, &board);
                // Nobody waits for it: the guest was dropped.
                let _ = ended.send(end);
            };
            let thread = std::thread::Builder::new().name(format!("vcpu-{number}")).stack_size(STACK);
            processors.threads.push(thread.spawn(work)?);
        }
        Ok(processors)
    }
}

impl Drop for Processors {
    fn drop(&mut self) {
        self.board.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            while !thread.is_finished() {
                let _ = thread.kill(SIGRTMIN());
                std::thread::sleep(AGAIN);
            }
            let _ = thread.join();
        }
    }
}

/// Does nothing: the signal ends `KVM_RUN`, which is all that it is for.
extern "C" fn interrupted(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {}

/// Runs a processor until the guest ends, or is stopped.
fn run(vcpu: &mut VcpuFd, board: &Board) -> End {
    while !board.stop.load(Ordering::SeqCst) {
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
            Ok(VcpuExit::Intr) => None,
            Ok(VcpuExit::FailEntry(why, _)) => return End::Failed(format!("KVM cannot enter it: {why:#x}")),
            Ok(other) => return End::Failed(format!("KVM stopped it: {other:?}")),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => None,
            Err(error) => return End::Failed(format!("KVM cannot run it: {error}")),
        };
        match wish {
            Some(Wish::Reset) => return End::Reset,
            Some(Wish::PowerOff) => return End::PowerOff,
            None => {}
        }
    }
    End::Stopped
}
