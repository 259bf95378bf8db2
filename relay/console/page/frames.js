// The screen's rhythm: however much arrives, it is shown once a frame.

/** A hidden page has no frames. */
const HIDDEN_MS = 250;

/** @returns a function that has `show` called with the next frame, once for any number of calls */
export function perFrame(show) {
  let asked = false;
  const run = () => {
    if (!asked) return;
    asked = false;
    document.removeEventListener('visibilitychange', run);
    show();
  };
  return () => {
    if (asked) return;
    asked = true;
    if (document.hidden) {
      setTimeout(run, HIDDEN_MS);
      return;
    }
    requestAnimationFrame(run);
    document.addEventListener('visibilitychange', run);
  };
}

/** Called within a frame; `then` is called when that frame is on the screen. */
export function afterPaint(then) {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = then;
  port2.postMessage(null);
}
