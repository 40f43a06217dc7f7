-- Carries out commands, if their session still delivers. ARGV: its token; then each command behind the number of its words.
-- Answers what has failed: the number of a command, and what was said of it.
if redis.call('HGET', KEYS[1], 'session') ~= ARGV[1] then
  return redis.error_reply('FENCED another session delivers, or the marker is gone')
end
local failed, number, at, last = {}, 0, 2, #ARGV
while at <= last do
  local words = tonumber(ARGV[at])
  local answer = redis.pcall(unpack(ARGV, at + 1, at + words))
  number = number + 1
  if type(answer) == 'table' and answer.err then
    failed[#failed + 1] = number
    failed[#failed + 1] = answer.err
  end
  at = at + words + 1
end
return failed
