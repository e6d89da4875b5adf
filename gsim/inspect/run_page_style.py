"""What a run's page looks like beside the look of all pages, and what it does when it is pointed at."""

STYLE = """
:root { --bar: #d0d3d8; --batch: #0072B2; --queue: #D55E00; --kv: #009E73; --down: #00000022 }
@media (prefers-color-scheme: dark) { :root { --bar: #4a4e57; --batch: #56B4E9; --queue: #f08a4b; --kv: #3fc79a;
  --down: #ffffff2a } }
section { margin-top: 2rem } .strip { margin-top: .6rem; break-inside: avoid }
.strip figcaption { display: flex; flex-wrap: wrap; column-gap: 1rem } output { font-weight: 400; color: var(--soft) }
svg[viewBox] { width: 100%; min-width: 38rem; display: block } figure { overflow-x: auto }
path { fill: none; stroke-width: 1.4 } .batch { stroke: var(--batch) } .queue { stroke: var(--queue) }
.kv { stroke: var(--kv); stroke-width: 1 } .down { fill: var(--down) } .move { fill: var(--ink); opacity: .55 }
.due { stroke: #E02020; stroke-width: 1.6 } .now { stroke: var(--soft); stroke-dasharray: 3 3 }
.legend span { margin-right: 1.2rem; font-size: .85rem; white-space: nowrap }
.causes td, .causes th, .worst td:nth-child(-n+4), .worst th:nth-child(-n+4) { text-align: left }
.causes td:nth-child(-n+4):nth-child(n+2), .causes th:nth-child(-n+4):nth-child(n+2) { text-align: right }
.causes td:last-child { white-space: normal; min-width: 16rem; color: var(--soft) }
button { font: inherit; color: var(--link); background: none; border: 0; padding: 0; cursor: pointer }
button[aria-pressed=true] { font-weight: 700; text-decoration: underline } meter { width: 8rem }
pre { overflow-x: auto; font-size: .8rem; line-height: 1.4; background: var(--tint); padding: .6rem }
.setup pre { max-height: 24rem; overflow: auto }
details:target { outline: 2px solid var(--link); outline-offset: 4px }
@media print { details.setup { display: none } figure, pre { overflow: visible } pre { white-space: pre-wrap }
  svg[viewBox] { min-width: 0 } table { font-size: .7rem } td, th { padding: .2rem .35rem; white-space: normal }
  .causes td:last-child { min-width: 0 } meter { display: none } }
"""

SCRIPT = """
// A link to a story opens it.
const shown = () => { const part = document.getElementById(location.hash.slice(1)); if (part) part.open = true }
addEventListener("hashchange", shown); shown()
for (const button of document.querySelectorAll("[data-cause]")) button.addEventListener("click", event => {
  event.stopPropagation()
  const on = button.getAttribute("aria-pressed") !== "true"
  for (const other of document.querySelectorAll("[data-cause]"))
    other.setAttribute("aria-pressed", other === button && on)
  for (const row of document.querySelectorAll(".worst tbody tr"))
    row.hidden = on && row.cells[1].textContent !== button.dataset.cause
})
const samples = JSON.parse(document.getElementById("samples").textContent)
const drawn = [...document.querySelectorAll(".strip")].map((strip, i) => {
  const svg = strip.querySelector("svg"), line = document.createElementNS("http://www.w3.org/2000/svg", "line")
  line.setAttribute("class", "now"); line.setAttribute("y1", 8); line.setAttribute("y2", 80)
  line.style.display = "none"
  svg.append(line)
  return { svg, line, told: strip.querySelector("output"), series: samples.strips[i] }
})
const place = share => {
  const at = samples.left + share * (samples.width - samples.left - samples.right)
  for (const { line, told, series } of drawn) {
    line.style.display = share === null ? "none" : ""
    line.setAttribute("x1", at); line.setAttribute("x2", at)
    const bin = Math.min(series[0].length - 1, Math.floor(share * series[0].length))
    const [batch, queue, kv] = series.map(values => values[bin] === null ? "-" : values[bin])
    told.textContent = share === null ? "" :
      `${(share * samples.end).toFixed(1)} s: batch ${batch}, queue ${queue}, KV ${kv} %`
  }
}
for (const { svg } of drawn) {
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * samples.width
    const share = (x - samples.left) / (samples.width - samples.left - samples.right)
    place(share >= 0 && share <= 1 ? share : null)
  })
  svg.addEventListener("pointerleave", () => place(null))
}
"""
