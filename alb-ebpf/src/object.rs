//! What every object has that the kernel loads, whichever programs are in it.

/// The kernel's word for programs that may use GPL helpers.
#[expect(unsafe_code, reason = "the loader looks for this section")]
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: nothing here panics, and the verifier would refuse the endless loop.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
