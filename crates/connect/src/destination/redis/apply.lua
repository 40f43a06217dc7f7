-- Carries out commands, if their session still delivers. ARGV: its token; then each command behind the number of its words.
-- Answers what has failed: the number of a command, and what was said of it.
-- Two commands are none of Redis: REPLACE key field value … makes a hash anew, REMOVE key takes one away. Both leave alone what is no hash.
local function has_failed(answer)
  return type(answer) == 'table' and answer.err
end
local function replace(key, ...)
  -- Before anything is taken away: it fails on another kind of key, and where memory is full.
  local answer = redis.pcall('HSET', key, ...)
  if has_failed(answer) then
    return answer
  end
  redis.call('PERSIST', key)
  if redis.call('HLEN', key) > select('#', ...) / 2 then
    local words, ours = {...}, {}
    for i = 1, #words, 2 do
      ours[words[i]] = true
    end
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if not ours[field] then
        redis.call('HDEL', key, field)
      end
    end
  end
  return answer
end
local function remove(key)
  local answer = redis.pcall('HLEN', key)
  if has_failed(answer) then
    return answer
  end
  return redis.pcall('UNLINK', key)
end
local function carry_out(command, ...)
  if command == 'REPLACE' then
    return replace(...)
  end
  if command == 'REMOVE' then
    return remove(...)
  end
  return redis.pcall(command, ...)
end
local session = redis.call('HGET', KEYS[1], 'session')
if not session then
  return redis.error_reply('UNMARKED the marker is gone')
end
if session ~= ARGV[1] then
  return redis.error_reply('FENCED another session delivers')
end
local failed, number, at, last = {}, 0, 2, #ARGV
local refused
while at <= last do
  local words = tonumber(ARGV[at])
  number = number + 1
  -- A key that was left alone keeps its time as well.
  if ARGV[at + 1] ~= 'PEXPIRE' or ARGV[at + 2] ~= refused then
    local answer = carry_out(unpack(ARGV, at + 1, at + words))
    refused = nil
    if has_failed(answer) then
      refused = ARGV[at + 2]
      failed[#failed + 1] = number
      failed[#failed + 1] = answer.err
    end
  end
  at = at + words + 1
end
return failed
