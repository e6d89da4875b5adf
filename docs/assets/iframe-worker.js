// Search works in a page that is opened from the disk: browsers start no worker there, so a hidden frame does its work.
// (The theme looks for this file's names, IFrameWorker and script[src] in the frame.)
(() => {
  if (location.protocol !== "file:") return
  class IFrameWorker extends EventTarget {
    constructor(url) {
      super()
      this.url = String(url)
      this.waiting = []
      document.body ? this.begin() : addEventListener("DOMContentLoaded", () => this.begin())
    }
    begin() {
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.document.open()
      inside.document.write("<!doctype html><html><body></body></html>")
      inside.document.close()
      inside.postMessage = data => {
        const event = new MessageEvent("message", {data})
        this.dispatchEvent(event)
        if (this.onmessage) this.onmessage(event)
      }
      inside.importScripts = (...urls) => urls.reduce((before, url) => before.then(() => load(inside, url)), Promise.resolve())
      load(inside, this.url).then(() => {
        this.frame = inside
        this.waiting.splice(0).forEach(data => this.postMessage(data))
      })
    }
    postMessage(data) {
      if (this.frame) this.frame.dispatchEvent(new MessageEvent("message", {data}))
      else this.waiting.push(data)
    }
    terminate() {}
  }
  const load = (inside, url) => new Promise((done, failed) => {
    const script = inside.document.createElement("script")
    script.src = url
    script.onload = done
    script.onerror = failed
    inside.document.body.appendChild(script)
  })
  window.IFrameWorker = IFrameWorker
  window.Worker = IFrameWorker
})()
