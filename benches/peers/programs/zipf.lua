-- wrk walks the targets of WALK (environment), one a line, each with the head of HEAD. All of it
-- is prepared before the clock starts: a request costs the generator one look-up in a table.
local head = io.open(os.getenv("HEAD")):read("*a")
local prepared, walk = {}, {}
for target in io.lines(os.getenv("WALK")) do
  if not prepared[target] then
    prepared[target] = "GET " .. target .. " HTTP/1.1\r\n" .. head .. "\r\n"
  end
  walk[#walk + 1] = prepared[target]
end
local at = 0
function request()
  at = at % #walk + 1
  return walk[at]
end
