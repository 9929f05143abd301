-- Requests for wrk, each with a prompt of its own; the outcome as one line of JSON.
-- Arguments: nonce, file of the body's template, file of keys, file of models (one a line).

local function lines(path)
  local all = {}
  for line in io.lines(path) do all[#all + 1] = line end
  return all
end

local counter, nonce, before, between, after, keys, models = 0

function init(args)
  nonce = args[1]
  local file = assert(io.open(args[2]))
  local template = file:read("*a")
  file:close()
  local m0, m1 = template:find("@MODEL@", 1, true)
  local i0, i1 = template:find("@ID@", 1, true)
  before = template:sub(1, m0 - 1)
  between = template:sub(m1 + 1, (i0 or #template + 1) - 1)
  after = i0 and template:sub(i1 + 1)
  keys, models = lines(args[3]), lines(args[4])
  for i, key in ipairs(keys) do keys[i] = "Bearer " .. key end
end

function request()
  counter = counter + 1
  local body = before .. models[counter % #models + 1] .. between
  if after then body = body .. nonce .. string.format("%09d", counter) .. after end
  wrk.headers["Authorization"] = keys[counter % #keys + 1]
  return wrk.format("POST", nil, nil, body)
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests":%d,"seconds":%.6f,"errors":%d,"p50":%.6f,"p95":%.6f,"p99":%.6f}\n',
    summary.requests, summary.duration / 1e6, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3))
end
