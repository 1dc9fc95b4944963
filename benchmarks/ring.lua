-- wrk script: every request is another signed event. wrk's Lua has no HMAC, so the ring file holds, line by
-- line, "<delivery id> <signature>"; the template file holds the body in two lines, before and after the id.
local heads, ids, tail, before, position = {}, {}, nil, nil, 0

local function lines(path)
  local found = {}
  for line in io.lines(path) do found[#found + 1] = line end
  return found
end

function init(args)
  local template = lines(args[2])
  before, tail = template[1], template[2]
  for _, line in ipairs(lines(args[1])) do
    local id, signature = line:match("^(%S+) (%S+)$")
    ids[#ids + 1] = id
    heads[#heads + 1] = signature
  end
  local bytes = #before + #ids[1] + #tail
  local start = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.host .. "\r\n"
    .. "Content-Type: application/json\r\nContent-Length: " .. bytes .. "\r\n" .. args[3] .. ": "
  for index, signature in ipairs(heads) do heads[index] = start .. signature .. "\r\n\r\n" .. before end
end

function request()
  position = position + 1
  if position > #ids then
    -- The ring is used up: stop instead of sending an event twice. What is returned here is never answered.
    wrk.thread:stop()
    position = #ids
  end
  return heads[position] .. ids[position] .. tail
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "microseconds": %d, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
